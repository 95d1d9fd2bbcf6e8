"""One file a method; each turns a `Context` into factors of the streamed matrix B, in scratch."""
