package ilp

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// lines is eight bytes that are four records where they aren't a value.
const lines = "\nx\nx\nx\nx"

// rows are records that scanRows looks through.
var rows = []string{
	"t f=1i\n", "\n", "\r\n", "trades,symbol=ETH-USD,side=sell price==\x10\n\r,=\\ /\x00,amount==\x10,,,,,,,, 1646762637609765000\n",
	"t,a=,b=c f=,g= \n", "t n==\x10========\n", "t l==\x0f\n\n\n\n\n\n\n\n,i==\x03    ,f==\x02,,,,,b==\x06\n,t==\x0dnnnnnnnn\n 1\n",
	"t a==\x0e\x0a\x02\x01\x00\x00\x00\x03\x00\x00\x00\n\n\n\n\n\n\n\n\n=======\n,,,,,,,,b==\x0e\x0a\x01\x01\x00\x00\x00        \n",
	"a_table_with_a_name_longer_than_a_block_of_sixty_four_bytes_and_then_some f==\x10\n\n\n\n\n\n\n\n,a_field_with_a_name_longer_than_a_block_of_sixty_four_bytes_too=1.5,g=t\n",
	"t,a=b f==\x10" + lines + "\n", "t f=1i,s=t,a==\x10" + lines + ",b==\x10" + lines + ",c==\x10" + lines + "\n",
	"book,symbol=ETH-USD bids==\x0e\x0a\x01\x28\x00\x00\x00" + ten(320) + ",n=1i 1\n",
}

// oddRows are almost like those.
var oddRows = []string{
	"t f=\"a\"b\",g==\x10" + lines + "\n", "t a==\x0e\x0a\x00" + lines + ",f=1i\n",
	"t a==\x0e\x0a\x21" + strings.Repeat("\x01\x00\x00\x00", 33) + lines + ",f=1i\n",
}

// TestRows has each row at each place of a block, whole, cut off, without each byte, and with each byte replaced by each that means
// something.
func TestRows(t *testing.T) {
	for _, row := range rows {
		for before := range blockSize {
			stream := bytes.Repeat([]byte("\n"), before)
			stream = append(stream, row...)
			size := len(stream)
			stream = append(stream, "t f=1i\n"...)
			stream = append(stream, bytes.Repeat([]byte("\n"), blockSize-1)...)
			if done := checkRows(t, stream); done < size {
				t.Fatalf("%q: looked through %d bytes, not %d", stream, done, size)
			}
			if before%7 != 0 {
				continue
			}
			for i := before; i < size; i++ {
				whole := stream[i]
				for _, b := range []byte("\n\r,= \\\"/x9\x00\x02\x06\x0a\x0d\x0e\x0f\x10\x17\x80\xff") {
					stream[i] = b
					checkRows(t, stream)
				}
				stream[i] = whole
				checkRows(t, slices.Delete(slices.Clone(stream), i, i+1))
			}
			for n := range stream {
				checkRows(t, stream[:n])
			}
		}
	}
	for _, row := range oddRows {
		checkRows(t, []byte(row+ten(2*blockSize)))
	}
}

// TestStopMasks compares the vectors' masks to those that are made byte by byte.
func TestStopMasks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := make([]byte, 8*blockSize)
		for i := range p {
			p[i] = byte(r.IntN(256))
		}
		blocks := 1 + r.IntN(8)
		got, want := [8]uint64{7: 77}, [8]uint64{7: 77}
		stopMasks(p, blocks, &got)
		stopMasksBytes(p, blocks, &want)
		if got != want {
			t.Fatalf("%d blocks of %q: %x, want %x", blocks, p, got, want)
		}
	}
}
