"""What happens to jobs when a part of the service dies: real processes, real signals."""
