"""RLU's server side: gateway, attestor, engine launcher and supervisor. See server/DESIGN.md."""
