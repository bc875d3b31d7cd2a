module prober.dev/tests/cluster/box

go 1.24.0
