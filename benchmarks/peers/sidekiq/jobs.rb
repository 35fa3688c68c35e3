# The jobs of the benchmark, the same as ours in ../../jobs.py: one small integer, counted in memory.
require "json"
require "sidekiq"

SEEN = []
SUM = [0]
EXPECTED = ENV.fetch("BENCH_N", "0").to_i

def monotonic
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

# Renamed into place, so that whoever waits for the file never reads half of it.
def report(file, value)
  File.write(file + ".part", JSON.generate(value))
  File.rename(file + ".part", file)
end

class Noop
  include Sidekiq::Job
  sidekiq_options queue: "bench", retry: 25

  def perform(number)
    SUM[0] += number
    SEEN << jid
    report(ENV.fetch("BENCH_DONE"), at: monotonic) if SEEN.size == EXPECTED
  end
end

# Pushed after the drain: what this process has counted, runs too many included.
class Count
  include Sidekiq::Job
  sidekiq_options queue: "bench", retry: false

  def perform(file)
    report(file, calls: SEEN.size, distinct: SEEN.uniq.size, sum: SUM[0])
  end
end

# Debian's redis-rb 4.8 prints a deprecation at each BRPOP and SADD of Sidekiq 6.4: a handicap of the packaging, not of
# Sidekiq.
Redis.silence_deprecations = true

Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("REDIS_URL"), size: 1 } }
Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch("REDIS_URL") }
  config.on(:startup) { report(ENV.fetch("BENCH_READY"), at: monotonic) }
end
Sidekiq.logger.level = Logger::WARN
