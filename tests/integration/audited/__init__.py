"""What is put on the path of a process under test."""
