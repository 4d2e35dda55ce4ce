"""vLLM's engine without a listener: what `vllm serve --headless` runs, on machines of a group that do not lead it.

Named as a module of its own, because that command also asks for the version of a distribution that builds for other devices do not have.
"""

from __future__ import annotations

from vllm.entrypoints.cli.serve import make_arg_parser, run_headless, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args()
    arguments.api_server_count = 0
    validate_parsed_serve_args(arguments)
    run_headless(arguments)
