// Package rejected keeps the records that are not delivered, in a form in which
// they can be looked at, repaired and sent again.
//
// The file has one JSON object a line:
//
//	{"time":"2026-01-02T03:04:05.678901234Z","writer":"10.0.0.7:51234","reason":"malformed","detail":"...","table":"trades","record":"trades price=\n"}
//
// The record's bytes are "record" if they are UTF-8, else "record_base64" (with
// padding), and always exactly what the writer sent, with the LF or CR at their
// end. Where not all of them were kept, "size" says how many there were.
//
// The file is only ever appended to, whole lines at a time. A process that dies
// can leave a line half-written; the next one begins a new line behind it.
package rejected
