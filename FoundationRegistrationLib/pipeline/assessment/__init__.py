"""What a finished registration is worth, from measures that need no truth; `assess` takes them all and judges."""
