// Package auth is everything the proxy knows about QuestDB's authentication
// over ILP/TCP: the key (a P-256 JWK), the line that QuestDB keeps of it in
// auth.txt, and the challenge-response that a client runs at the beginning of
// a connection.
//
// Private keys stay inside: no formatter, logger or marshaler shows them. The
// two exceptions are by name, [Secret.Reveal] and [Key.MarshalJWK].
package auth
