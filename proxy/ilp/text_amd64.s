//go:build !purego

#include "textflag.h"

// Bit i of a mask stands for byte i of the block of 64. The carry registers hold the last bit of the block before:
//	R8  LF (1 at first: p begins at the start of a line)
//	R9  '='
//	R10 CR
//	R11 CR at the start of a line
// SI is p, DI the offset of the block, CX the end, R12 the number of records.

// func scanTextAVX2(p *byte, n int) (done, records, last int)
TEXT ·scanTextAVX2(SB), NOSPLIT, $0-40
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	XORQ DI, DI
	MOVQ $1, R8
	XORQ R9, R9
	XORQ R10, R10
	XORQ R11, R11
	XORQ R12, R12
	XORQ R13, R13 // the last mask of LFs that is not empty
	XORQ DX, DX   // and its block's offset

	MOVL $0x0A, AX
	VMOVQ AX, X10
	VPBROADCASTB X10, Y10
	MOVL $0x3D, AX
	VMOVQ AX, X11
	VPBROADCASTB X11, Y11
	MOVL $0x0D, AX
	VMOVQ AX, X12
	VPBROADCASTB X12, Y12
	MOVL $0x5C, AX
	VMOVQ AX, X13
	VPBROADCASTB X13, Y13

	CMPQ DI, CX
	JAE  finish

block:
	VMOVDQU   (SI)(DI*1), Y0
	VMOVDQU   32(SI)(DI*1), Y1
	VPCMPEQB  Y0, Y10, Y2
	VPCMPEQB  Y1, Y10, Y3
	VPCMPEQB  Y0, Y11, Y4
	VPCMPEQB  Y1, Y11, Y5
	VPCMPEQB  Y0, Y12, Y6
	VPCMPEQB  Y1, Y12, Y7
	VPCMPEQB  Y0, Y13, Y8
	VPCMPEQB  Y1, Y13, Y9
	VPOR      Y8, Y9, Y8    // backslashes
	VPOR      Y6, Y7, Y9    // CRs
	VPOR      Y8, Y9, Y9
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, BX
	SHLQ      $32, BX
	ORQ       BX, AX        // AX: LF
	VPMOVMSKB Y4, BX
	VPMOVMSKB Y5, R15
	SHLQ      $32, R15
	ORQ       R15, BX       // BX: '='

	// R8 becomes the mask of starts of lines, R9 that of bytes after '='.
	LEAQ (R8)(AX*2), R8
	LEAQ (R9)(BX*2), R9
	ORQ  R8, R9
	ANDQ BX, R9
	JNZ  finish             // "==", or '=' at the start of a line

	VPMOVMSKB Y9, R15
	ORQ       R10, R15
	JNZ       unusual

	NOTQ R8
	ANDQ AX, R8             // LFs that end records that are not blank

count:
	POPCNTQ R8, R8
	ADDQ    R8, R12
	TESTQ   AX, AX
	CMOVQNE AX, R13
	CMOVQNE DI, DX
	MOVQ    AX, R8
	SHRQ    $63, R8
	MOVQ    BX, R9
	SHRQ    $63, R9
	ADDQ    $64, DI
	CMPQ    DI, CX
	JB      block

finish:
	MOVQ    DI, done+16(FP)
	MOVQ    R12, records+24(FP)
	XORQ    AX, AX
	BSRQ    R13, R13
	LEAQ    1(DX)(R13*1), DX
	CMOVQNE DX, AX          // BSR of an empty mask sets ZF, and LEA leaves it alone
	MOVQ    AX, last+32(FP)
	VZEROUPPER
	RET

	// The block holds a backslash, or a CR, or the block before ended with one.
unusual:
	VPMOVMSKB Y8, R15
	TESTL     R15, R15
	JNZ       finish
	VPMOVMSKB Y6, R9
	VPMOVMSKB Y7, R15
	SHLQ      $32, R15
	ORQ       R15, R9       // R9: CR
	LEAQ      (R10)(R9*2), R10
	MOVQ      AX, R15
	NOTQ      R15
	ANDQ      R15, R10
	JNZ       finish        // a CR that no LF follows
	MOVQ      R9, R15
	ANDQ      R8, R15       // CRs at the start of a line
	LEAQ      (R11)(R15*2), R10
	ORQ       R10, R8       // LFs here are blank lines
	MOVQ      R15, R11
	SHRQ      $63, R11
	MOVQ      R9, R10
	SHRQ      $63, R10
	NOTQ      R8
	ANDQ      AX, R8
	JMP       count

// The stops are the bytes of which the two tables have a bit in common, one looked up by the low half of the byte, one by the high.
DATA stopsLow<>+0x00(SB)/8, $0x0000000000000003  // 0x00 ' '
DATA stopsLow<>+0x08(SB)/8, $0x0200050A00010000  // LF; ',' '\\'; CR '='; '/'
GLOBL stopsLow<>(SB), RODATA|NOPTR, $16
DATA stopsHigh<>+0x00(SB)/8, $0x0000080004020001
DATA stopsHigh<>+0x08(SB)/8, $0x0000000000000000
GLOBL stopsHigh<>(SB), RODATA|NOPTR, $16

// func stopMasksAVX2(p *byte, blocks int, masks *uint64)
TEXT ·stopMasksAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ blocks+8(FP), CX
	MOVQ masks+16(FP), DI
	VBROADCASTI128 stopsLow<>(SB), Y4
	VBROADCASTI128 stopsHigh<>(SB), Y5
	MOVL $0x0F, AX
	VMOVQ AX, X6
	VPBROADCASTB X6, Y6
	VPXOR Y7, Y7, Y7

masks:
	VMOVDQU   (SI), Y0
	VMOVDQU   32(SI), Y1
	VPSHUFB   Y0, Y4, Y2   // 0 for bytes from 0x80 on
	VPSHUFB   Y1, Y4, Y3
	VPSRLW    $4, Y0, Y0
	VPSRLW    $4, Y1, Y1
	VPAND     Y6, Y0, Y0
	VPAND     Y6, Y1, Y1
	VPSHUFB   Y0, Y5, Y0
	VPSHUFB   Y1, Y5, Y1
	VPAND     Y2, Y0, Y0
	VPAND     Y3, Y1, Y1
	VPCMPEQB  Y7, Y0, Y0   // those that are none
	VPCMPEQB  Y7, Y1, Y1
	VPMOVMSKB Y0, AX
	VPMOVMSKB Y1, BX
	SHLQ      $32, BX
	ORQ       BX, AX
	NOTQ      AX
	MOVQ      AX, (DI)
	ADDQ      $64, SI
	ADDQ      $8, DI
	DECQ      CX
	JNZ       masks
	VZEROUPPER
	RET
