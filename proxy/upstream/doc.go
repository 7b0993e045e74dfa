// Package upstream keeps connections to QuestDB open and authenticated, so that
// no writer has to wait for a handshake.
//
// A [Pool] holds a few connections ready and makes more when they are asked for,
// up to a limit that it never exceeds. A connection is handed out only after its
// probation: QuestDB says nothing to a signature that it accepts, and closes the
// connection on one that it does not, so that "authenticated" is only ever
// inferred from having survived for a moment. When QuestDB cannot be reached the
// pool goes on trying, one attempt at a time, with growing pauses, for ever, and
// says in [Pool.Status], metrics and the log what is the matter and what to check.
//
// A [Conn] is handed out once and never comes back: what went over it cannot be
// undone, and QuestDB never answers. Its owner writes whole records, half-closes,
// waits for [Conn.Done], looks at [Conn.End], and gives the place back with
// [Conn.Discard].
package upstream
