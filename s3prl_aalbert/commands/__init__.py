"""The sub-commands of `aalbert`, one module each: add_arguments(parser) and main(args)."""
