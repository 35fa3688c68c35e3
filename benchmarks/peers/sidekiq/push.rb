# ruby push.rb push|bulk|count N [FILE]: enqueues and prints the seconds that it took, as JSON.
require_relative "jobs"

kind, n, file = ARGV[0], ARGV[1].to_i, ARGV[2]
Sidekiq.redis(&:ping) # the connection is made before the clock starts

started = monotonic
case kind
when "push" then n.times { |number| Noop.perform_async(number) }
when "bulk" then Noop.perform_bulk((0...n).map { |number| [number] }, batch_size: 1_000)
when "count" then Count.perform_async(file)
else abort "push.rb: #{kind.inspect} is none of push, bulk, count"
end
puts JSON.generate(seconds: monotonic - started, n: n)
