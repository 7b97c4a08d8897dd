"""What the processes of a machine do to it: zombies, D state, pids and descriptors. Reads /proc, changes nothing."""
