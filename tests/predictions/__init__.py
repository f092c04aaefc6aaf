"""About five thousand predictions of the public interface, kept as text, so that a change says what it moves."""
