"""Where arithmetic happens, as a value that is handed down: a processor, or a GPU with memory of its own."""
