"""What the machine offers: folders, processors, the sandbox, prepared testbeds."""
