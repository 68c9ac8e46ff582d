"""Fine-tunes as processes of their own: queue, folders, states, room on the device."""
