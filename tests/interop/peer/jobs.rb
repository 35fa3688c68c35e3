# The Ruby side of the shop: the same class names as in ../shop.py, and notes of what ran in the same file.
require "json"
require "sidekiq"

# Debian's redis-rb 4.8 prints a deprecation at each BRPOP and SADD of Sidekiq 6.4.
Redis.silence_deprecations = true
Sidekiq.logger.level = Logger::WARN

def note(event, job, args)
  line = JSON.generate(who: "ruby", event: event, class: job.class.name, jid: job.jid, args: args)
  File.open(ENV.fetch("SHOP_NOTES"), "a") { |file| file.write(line + "\n") }
end

module Shop
  class Echo
    include Sidekiq::Job

    def perform(*args)
      note("ran", self, args)
    end
  end

  # Fails until the file `mended` is there.
  class Fragile
    include Sidekiq::Job
    sidekiq_options retry: 3
    sidekiq_retry_in { 1 }

    def perform(number)
      note("ran", self, [number])
      raise ArgumentError, "not mended: é" unless File.exist?(ENV.fetch("SHOP_MENDED"))
      note("mended", self, [number])
    end
  end

  class Once < Echo
  end

  class Nap < Echo
  end
end

# In a worker, whatever its poller pushes passes here.
class Moved
  def call(_job_class, job, _queue, _redis_pool)
    line = JSON.generate(who: "ruby", event: "moved", class: job["class"], jid: job["jid"], args: job["args"])
    File.open(ENV.fetch("SHOP_NOTES"), "a") { |file| file.write(line + "\n") }
    yield
  end
end

# A worker's poller first waits up to 5 seconds, so that many do not look at once. Tests have one.
module AtOnce
  def initial_wait
  end
end

Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("REDIS_URL"), size: 2 } } if ENV["REDIS_URL"]
Sidekiq.configure_server do |config|
  require "sidekiq/scheduled"
  Sidekiq::Scheduled::Poller.prepend(AtOnce)
  config.options[:poll_interval_average] = ENV.fetch("SHOP_POLL", "0.2").to_f
  config.client_middleware { |chain| chain.add(Moved) }
  config.redis = { url: ENV.fetch("REDIS_URL") }
  config.on(:startup) { File.write(ENV.fetch("SHOP_READY"), Process.pid.to_s) }
end
