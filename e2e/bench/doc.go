// Command bench measures the proxy beside what else could stand in its place,
// all in one run on one machine, so that its figures are ratios: straight to
// QuestDB and through the proxy; straight to a sink that throws away, through
// HAProxy, through nginx, and through the proxy.
//
// Everything is interleaved. Each round measures every peer once, every other
// round in the opposite order, and divides what one peer reached by what the
// reference reached in the same round. The table shows the median of those
// ratios and the lowest and highest; the reference's own line shows what the
// machine alone makes of the same measurement from one round to another.
//
// The load generator is this process, the sink another of the same program, and
// each relay a process of its own. All share the machine's cores; QuestDB is also
// measured on one half of them, with everything else on the other.
//
// It works on Linux only.
package main
