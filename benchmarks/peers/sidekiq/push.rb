# ruby push.rb KIND N [ARGUMENT]: does what ../../side.py does by that name, and prints the seconds that it took, as JSON.
require_relative "jobs"
require "sidekiq/scheduled"

PAUSE = 0.01 # seconds between the jobs whose latency is measured

def bulk(job, n)
  args = (0...n).map { |number| [number] }
  args.each_slice(1_000) { |slice| Sidekiq::Client.push_bulk("class" => job, "args" => slice) }
end

def stamp
  Stamp.perform_async(Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond))
end

def later(n)
  soon = Time.now.to_f
  (0...n).each_slice(1_000) do |slice|
    at = slice.map { soon + 1 + rand * 600 }
    Sidekiq::Client.push_bulk("class" => Noop, "args" => slice.map { |number| [number] }, "at" => at)
  end
end

def sleep_until(moment)
  sleep [moment - Tally.now, 0].max
end

def load_by(n, per_second)
  began, naps = Tally.now, 0
  n.times do |at|
    due = (at * PAUSE * per_second).round - naps
    Sidekiq::Client.push_bulk("class" => Nap, "args" => (naps...naps + due).map { |number| [number] }) if due > 0
    naps += due
    sleep_until(began + (at + 0.5) * PAUSE)
    stamp
    sleep_until(began + (at + 1) * PAUSE)
  end
  { naps: naps }
end

kind, n, argument = ARGV[0], ARGV[1].to_i, ARGV[2]
Sidekiq.redis(&:ping) # the connection is made before the clock starts

started, more = Tally.now, {}
case kind
when "push" then n.times { |number| Noop.perform_async(number) }
when "bulk" then Noop.perform_bulk((0...n).map { |number| [number] }, batch_size: 1_000)
when "bulk_naps" then bulk(Nap, n)
when "bulk_marks" then bulk(Mark, n)
when "bulk_later" then later(n)
when "promote" then Sidekiq::Scheduled::Enq.new.enqueue_jobs(%w[schedule])
when "latency" then n.times { stamp; sleep PAUSE }
when "load" then more = load_by(n, argument.to_f)
else abort "push.rb: #{kind.inspect} is none that it knows"
end
puts JSON.generate(seconds: Tally.now - started, n: n, **more)
