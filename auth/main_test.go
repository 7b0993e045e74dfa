package auth

import (
	"testing"

	"go.uber.org/goleak"
)

// The key of QuestDB's documentation, which everyone knows.
const (
	docID   = "testUser1"
	docD    = "5UjEMuA0Pj5pjK8a-fa24dyIf-Es5mYny3oE_Wmus48"
	docX    = "fLKYEaoEb9lrn3nkwLDA-M_xnuFOdSt9y0Z7_vWSHLU"
	docY    = "Dt5tbS1dEDMSYfym3fgMv0B99szno-dFc1rYF9t0aac"
	docLine = docID + " ec-p-256-sha256 " + docX + " " + docY
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func docKey(t testing.TB) *Key {
	t.Helper()
	key, err := NewKey(docID, NewSecret(docD))
	if err != nil {
		t.Fatal(err)
	}
	return key
}
