# Prints the versions that a result is worth nothing without.
require "json"
require "sidekiq"
yjit = defined?(RubyVM::YJIT) && RubyVM::YJIT.enabled? ? "on" : "off"
puts JSON.generate(sidekiq: Sidekiq::VERSION, ruby: RUBY_VERSION, redis_rb: Redis::VERSION, yjit: yjit)
