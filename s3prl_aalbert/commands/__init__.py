"""The sub-commands of `aalbert`, one module each: its typed function, add_arguments(parser) and main(args)."""
