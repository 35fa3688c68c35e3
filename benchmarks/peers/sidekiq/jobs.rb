# The jobs of the benchmark, the same as ours in ../../jobs.py, counted as in ../../tally.py.
require "json"
require "sidekiq"

module Tally
  JIDS, NUMBERS, WAITS, TIMES, BEGUN = [], [], [], [0.0, 0.0], []
  MARKS = Array.new(ENV.fetch("BENCH_MARKS", "0").to_i).fill(0).pack("C*") # a byte for each
  LOCK = Mutex.new

  def self.now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end

  def self.saw(jid, number)
    start if BEGUN.empty?
    NUMBERS << number
    JIDS << jid
    TIMES[1] = now
  end

  def self.mark(number)
    start if BEGUN.empty?
    MARKS.setbyte(number, MARKS.getbyte(number) + 1)
    TIMES[1] = now
  end

  def self.start
    LOCK.synchronize do
      next unless BEGUN.empty?
      TIMES[0] = now
      BEGUN << true
      Thread.new { write_often }
    end
  end

  # Whenever it stands still. Renamed into place, so that whoever waits for the file never reads half of it.
  def self.write_often
    file = File.join(ENV.fetch("BENCH_TALLY"), "#{Process.pid}.json")
    written = 0.0
    loop do
      last = TIMES[1]
      sleep 0.05
      next unless last == TIMES[1] && last != written
      File.write(file + ".part", JSON.generate(said))
      File.rename(file + ".part", file)
      written = last
    end
  end

  def self.said
    marked = MARKS.each_byte.with_index.filter_map { |times, number| number if times > 0 }
    { calls: JIDS.size + MARKS.each_byte.sum, distinct: JIDS.uniq.size + marked.size, jids: JIDS,
      sum: NUMBERS.sum + marked.sum, waits: WAITS, first: TIMES[0], last: TIMES[1] }
  end
end

class Noop
  include Sidekiq::Job
  sidekiq_options queue: "bench", retry: 25

  def perform(number)
    Tally.saw(jid, number)
  end
end

class Nap
  include Sidekiq::Job
  sidekiq_options queue: "bench", retry: 25

  def perform(number)
    sleep 0.001
    Tally.saw(jid, number)
  end
end

class Stamp
  include Sidekiq::Job
  sidekiq_options queue: "bench", retry: 25

  def perform(pushed)
    Tally::WAITS << Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond) - pushed
    Tally.saw(jid, 0)
  end
end

class Mark
  include Sidekiq::Job
  sidekiq_options queue: "bench", retry: 25

  def perform(number)
    Tally.mark(number)
  end
end

# Debian's redis-rb 4.8 prints a deprecation at each BRPOP and SADD of Sidekiq 6.4: a handicap of the packaging, not of
# Sidekiq.
Redis.silence_deprecations = true

Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("REDIS_URL"), size: 1 } }
Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch("REDIS_URL") } }
Sidekiq.logger.level = Logger::WARN unless ENV["BENCH_LOG"]
