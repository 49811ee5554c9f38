"""How much the result depends on the choices of the protocol."""
