# Reads a formula as Homebrew does and prints what it says as JSON: enough of Homebrew's language
# to hear it, nothing that builds.
require "json"

module Language
  module Python
    module Virtualenv
    end
  end
end

class Said
  class << self
    def said
      @said ||= {}
    end

    # Kernel has a method of this name.
    def test; end

    def method_missing(name, *words, **options, &block)
      if block
        inner = Class.new(Said)
        inner.class_eval(&block)
        words << inner.said
      end
      words << options unless options.empty?
      (said[name] ||= []) << words
    end

    def respond_to_missing?(*)
      true
    end
  end
end

Formula = Class.new(Said)

# Homebrew evaluates a formula in a module of its own, under its path.
path, = ARGV
loaded = Module.new
loaded.module_eval(File.read(path), path)
puts JSON.generate(loaded.const_get(:McpStdio).said)
