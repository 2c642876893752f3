module example.org/tobogganing-metrics

go 1.19
