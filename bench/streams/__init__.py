"""Programs of other stream processors, each in a process and an interpreter of its own."""
