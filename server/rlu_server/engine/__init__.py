"""How vLLM is started: arguments, environment, output that reaches the outside as event names only, readiness and the known answer."""
