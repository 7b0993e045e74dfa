// The client of docs/writers/go.md.
module writer

go 1.26.0

require github.com/questdb/go-questdb-client/v4 v4.1.0
