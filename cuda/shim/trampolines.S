// A function of every name in names.h that jumps to where dovetail_cuda_table says. All are hidden: a program exports what it
// has to libraries that it loads, and NVIDIA's must find their own.

.set at, 0

#if defined(__x86_64__)
#define FUNCTION(name) TRAMPOLINE name
.macro TRAMPOLINE name
	.globl	\name
	.hidden	\name
	.type	\name, @function
\name:
	jmp	*dovetail_cuda_table+at(%rip)
	.size	\name, . - \name
	.set	at, at + 8
.endm
#elif defined(__aarch64__)
#define FUNCTION(name) TRAMPOLINE name
.macro TRAMPOLINE name
	.globl	\name
	.hidden	\name
	.type	\name, %function
\name:
	adrp	x16, dovetail_cuda_table
	add	x16, x16, :lo12:dovetail_cuda_table
	mov	x17, #at
	ldr	x16, [x16, x17]
	br	x16
	.size	\name, . - \name
	.set	at, at + 8
.endm
#else
#error "NVIDIA has no driver for this architecture"
#endif

	.hidden	dovetail_cuda_table
	.text
#include "names.h"

	.section .note.GNU-stack, "", %progbits
