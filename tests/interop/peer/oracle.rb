# Answers what tests ask of Sidekiq itself: each line of input is JSON, {"url", "ruby"}; the answer is one line of JSON.
#
# `ruby` is what a Ruby application would say, as in Echo.perform_async(7); beside it stand `get` and `post`, which call
# Sidekiq's pages through Rack with a session cookie, as a browser does.
ENV["SHOP_NOTES"] ||= "/dev/null"
ENV["SHOP_MENDED"] ||= "/dev/null"
require_relative "jobs"
require "sidekiq/api"
require "sidekiq/web"
require "rack/builder"
require "rack/mock"
require "rack/session/cookie"

SECRET = "s" * 64
PAGES = Rack::Builder.app do
  use Rack::Session::Cookie, secret: SECRET, same_site: true
  run Sidekiq::Web
end
COOKIES = {}

def call(verb, path, params)
  cookies = COOKIES.map { |name, value| "#{name}=#{value}" }.join("; ")
  page = Rack::MockRequest.new(PAGES).request(verb, path, params: params, "HTTP_COOKIE" => cookies)
  page.headers["Set-Cookie"].to_s.lines.each do |line|
    name, value = line.split(";").first.split("=", 2)
    COOKIES[name] = value
  end
  page
end

# A page as [status, body].
def get(path, params = {})
  page = call("GET", path, params)
  [page.status, page.body.dup.force_encoding("UTF-8")]
end

# Press a button: every form holds the token of the session, here those of the page of processes.
def post(path, params = {})
  token = get("/busy").last[/name=.authenticity_token. value=.([^"']+)/, 1]
  page = call("POST", path, { "authenticity_token" => token }.merge(params))
  [page.status, page.headers["Location"]]
end

connected = nil
$stdout.sync = true
$stdin.each_line do |line|
  question = JSON.parse(line)
  unless connected == question["url"]
    Sidekiq.redis = { url: question["url"], size: 2 }
    connected = question["url"]
  end
  begin
    answer = { "value" => TOPLEVEL_BINDING.eval(question["ruby"]) }
  rescue Exception => error
    answer = { "error" => "#{error.class}: #{error.message}" }
  end
  $stdout.puts(JSON.generate(answer))
end
