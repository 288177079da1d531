"""What crosses a process, a disk or a wire: values in, bytes out. Pure: no I/O in this package."""
