package questdb

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// queryLimit bounds a query whose context has no deadline, so that a server
// which is paused or gone cannot hold a test for ever.
const queryLimit = 30 * time.Second

// Query runs one SQL statement and returns its rows as the text that the server
// renders, "" for null. Each query has a connection of its own (3 ms), so it
// works across restarts and from many goroutines; the server allows 64 at once.
func (p *Process) Query(ctx context.Context, sql string) ([][]string, error) {
	_, rows, err := Select(ctx, p.PG(), sql)
	return rows, err
}

// Select is Query on the server whose PG address is addr, and returns the
// columns' names too.
func Select(ctx context.Context, addr, sql string) (columns []string, rows [][]string, err error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, queryLimit)
		defer cancel()
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("asking QuestDB %q: %w", sql, err)
		}
	}()
	conn, err := pgconn.Connect(ctx, "postgres://admin:quest@"+addr+"/qdb?sslmode=disable")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		conn.Close(ctx)
		<-conn.CleanupDone()
	}()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	for _, result := range results {
		columns = columns[:0]
		for _, f := range result.FieldDescriptions {
			columns = append(columns, f.Name)
		}
		for _, values := range result.Rows {
			row := make([]string, len(values))
			for i, v := range values {
				row[i] = string(v)
			}
			rows = append(rows, row)
		}
	}
	return columns, rows, nil
}

// Count returns the number of rows in a table; a table that does not exist has
// none.
func (p *Process) Count(ctx context.Context, table string) (int, error) {
	rows, err := p.Query(ctx, `select count() from "`+strings.ReplaceAll(table, `"`, `""`)+`"`)
	if err != nil {
		if strings.Contains(err.Error(), "table does not exist") {
			return 0, nil
		}
		return 0, err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return 0, fmt.Errorf("counting the rows of %s: QuestDB answered %q", table, rows)
	}
	n, err := strconv.Atoi(rows[0][0])
	if err != nil {
		return 0, fmt.Errorf("counting the rows of %s: %w", table, err)
	}
	return n, nil
}
