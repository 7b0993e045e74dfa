package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"questdb-ilp-proxy/auth"
)

// guard is before what not everybody may ask: it lets requests with the token through, or, if there is none, those to a loopback
// address.
// A browser's requests for pages of others are refused in any case: to localhost any page may send a POST.
func guard(token auth.Secret, loopback bool, next http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case token.IsZero() && loopback:
		case token.IsZero():
			writeText(w, http.StatusForbidden, "this address is not loopback, so this needs a token: set ILP_ADMIN_TOKEN\n")
			return
		case !carries(r, token):
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeText(w, http.StatusUnauthorized, "this needs the token of ILP_ADMIN_TOKEN, as Authorization: Bearer TOKEN\n")
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// carries reports whether r has the token. How long that takes says nothing about it, its length included.
func carries(r *http.Request, token auth.Secret) bool {
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(token.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}
