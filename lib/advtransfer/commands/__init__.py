"""What is typed after ``python -m advtransfer``, a module a command."""
