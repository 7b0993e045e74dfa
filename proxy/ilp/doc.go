// Package ilp tells where one record of the InfluxDB Line Protocol ends, as QuestDB's TCP listener reads it, and whether the
// server would accept a record's syntax.
//
// The rules are those of the server's own parser, not of a specification: the classes LineTcpParser, ArrayBinaryFormatParser
// and DecimalBinaryFormatParser of QuestDB 8.1.2 and 9.3.4 (package io.questdb.cutlass.line.tcp). In short:
//
//   - A raw LF ends a record in all text, inside quotes too, where it is also an error. A backslash makes it content.
//   - CR ends a record as well, except inside quotes, after a backslash, and in binary values.
//   - Quotes open only directly after the '=' of a field.
//   - "==" after a field's name begins a binary value, whose length its header tells (text cannot: an array of doubles holds
//     0x0A in its header). There is no version negotiation on TCP, so every type of every protocol version is expected.
//   - After an error the server skips to the next LF or CR, whatever stands before it. The value of a field that does not
//     parse is such an error, so finding the end of a record takes a look at its values too.
//
// # What counts as a record
//
// A boundary is the position just past an LF or CR that ends a line. A line of no bytes, or of nothing but '=' (which the server
// ignores where a table's name is expected), is blank. Everything else that ends at a boundary is one record, an erroneous one
// too: the server skips it, or closes the connection because of it.
//
// One boundary does not follow an LF or CR of text: where a binary value is not followed by a separator, the server looks for
// the end of the record from the value's last byte on, and takes that byte for the end if it happens to be LF or CR.
//
// # Versions
//
// Run over some ten million random records, the parser of 9.3.4 and this package place the same boundaries, except that here
//
//   - the null arrays of all versions are taken for such, and what was a double for servers before 9.2 (1e100d) for a value;
//   - a value of more than 40 bytes is malformed only if it has bytes that occur in no number, and the range of a hexadecimal
//     double is not judged;
//   - an array with a negative number of values is an error, where the server waits for bytes without end.
//
// They concern records that 9.3.4 refuses anyway, and of these only the ones that go on with an escaped LF, or an LF in a binary
// value, behind the error. Where TCP splits a record within two bytes of a field's '=', the server may besides take a quote for
// an opening one that it would not take for one otherwise; the boundaries here are those without such a split.
//
// # Speed
//
// Text without backslashes, lone CRs and "==" needs no state machine: every LF is a boundary there. A Scanner looks for these
// bytes in blocks of 64 (AVX2 on amd64, 64-bit words elsewhere and with the build tag purego). Where it finds one, rows of the
// usual kind with binary values are gone over from one byte of meaning to the next, which AVX2 marks in blocks of 64 too; the
// state machine runs only over the lines that are neither.
package ilp
