package cli

import "testing"

func TestLanes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ most, minIdle, want, confirmed int }{
		{16, 2, 8, 4}, // the defaults
		{2, 2, 0, 0},  // delivery makes it 1
		{4, 2, 1, 1},
		{8, 2, 3, 3},
		{10, 2, 4, 4},
		{12, 2, 5, 4},
		{32, 2, 16, 8},
		{64, 2, 32, 16},
		{16, 16, 0, 0},
		{16, 0, 8, 4},
		{16, 8, 4, 4},
	} {
		got := lanes(tc.most, tc.minIdle, false)
		if got != tc.want {
			t.Errorf("of %d connections, %d idle: %d lanes, want %d", tc.most, tc.minIdle, got, tc.want)
		}
		if got := lanes(tc.most, tc.minIdle, true); got != tc.confirmed {
			t.Errorf("of %d connections, %d idle: %d lanes that confirm, want %d", tc.most, tc.minIdle, got, tc.confirmed)
		}
		// What a lane holds, the one apart too, and the idle ones: one must be left for a proof.
		if got > 1 && got+1+tc.minIdle >= tc.most {
			t.Errorf("of %d connections, %d idle: %d lanes leave nothing", tc.most, tc.minIdle, got)
		}
	}
}

func TestFragmentMemory(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, tc := range []struct{ buffer, record, want int64 }{
		{1 * mib, 64 << 10, mib / 4},
		{64 * mib, mib, 16 * mib},
		{96 * mib, mib, 16 * mib},
		{256 * mib, mib, 32 * mib},
		{256 * mib, 12 * mib, 48 * mib},
		{256 * mib, 64 * mib, 64 * mib},
	} {
		if got := fragmentMemory(tc.buffer, tc.record); got != tc.want {
			t.Errorf("of %d for records of %d: %d, want %d", tc.buffer, tc.record, got, tc.want)
		}
	}
}
