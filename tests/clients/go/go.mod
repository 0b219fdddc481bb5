// The page's program, built two folders below target/clients/go.
module page

go 1.22

require (
	github.com/cespare/xxhash/v2 v2.3.0
	github.com/dgryski/go-rendezvous v0.0.0
	github.com/redis/go-redis/v9 v9.17.2
)

replace (
	github.com/cespare/xxhash/v2 => ../../source/github.com/cespare/xxhash/v2
	github.com/dgryski/go-rendezvous => ../../source/github.com/dgryski/go-rendezvous
	github.com/redis/go-redis/v9 => ../../source/github.com/redis/go-redis
)
