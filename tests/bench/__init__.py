"""Speed, measured: every figure beside a peer or a physical limit from the same run. Commands, never timed tests."""
