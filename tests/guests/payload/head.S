/*
 * The ring-0 part: bzImage header, 64-bit entry, paging, GDT, IDT, TSS, local APIC, the other
 * processors, and interrupt handlers of a few instructions.
 *
 * Ring 0 may be emulated instruction by instruction: no SSE, no fancy instructions, no loops
 * that could be tables.
 */
#define CODE0 0x10
#define DATA0 0x18
#define CODE3 0x23
#define DATA3 0x2b
#define TSS0  0x30

#define CPUS       4
#define STACK      16384
#define TSS_STRIDE 8320 /* 104 bytes, 8192 of port bitmap (all open), one of ones */
#define TSS_LIMIT  8296
#define TRAMPOLINE 0x10000 /* SIPI vector 0x10; between the loader's tables and command line */

#define CTL_ONLINE 0x400000
#define CTL_LAPIC  0x400008
#define CTL_PIT    0x400010

#define MSR_APIC_BASE 0x1b
#define MSR_EFER      0xc0000080
#define X2APIC(reg)   (0x800 + (reg))
#define EOI           0x0b

/* ---- bzImage: one boot sector and one of setup, never run ---- */

	.section .setup, "a"
	.code64
	.org 0x1f1
	.byte 1                   /* setup_sects */
	.word 0
	.long image_paragraphs
	.org 0x1fe
	.word 0xaa55
	.byte 0xeb, 0x66          /* the header ends at 0x268 */
	.ascii "HdrS"
	.word 0x020c
	.org 0x211
	.byte 1                   /* loaded high */
	.org 0x214
	.long 0x100000
	.org 0x22c
	.long 0x7fffffff
	.long 0x1000
	.byte 0, 12
	.word 1                   /* XLF_KERNEL_64 */
	.long 2047                /* command line */
	.org 0x258
	.quad 0x100000            /* the one address it is linked for */
	.long image_bytes          /* init_size */
	.org 0x400

/* ---- 64-bit entry ---- */

	.section .head, "ax"
	.globl image
image:
	.org 0x200
start64:
	cli
	mov $pml4, %eax
	mov %rax, %cr3
	mov %rsi, boot_params
	/* 32 exception gates, the interrupt gates and the rest to one stub */
	mov $idt, %edi
	mov $stubs, %eax
	mov $256, %ecx
1:	movw %ax, (%rdi)
	movw $CODE0, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	mov %eax, %edx
	shr $16, %edx
	movw %dx, 6(%rdi)
	add $16, %edi
	add $16, %eax
	dec %ecx
	jnz 1b
	/* the trampoline of the other processors */
	mov $tramp, %esi
	mov $TRAMPOLINE, %edi
	mov $(tramp_end - tramp), %ecx
	rep movsb
	call cpu_init
	/* INIT, SIPI, SIPI to all but this one */
	mov $X2APIC(0x30), %ecx
	xor %edx, %edx
	mov $0x000c4500, %eax
	wrmsr
	mov $(0x000c4600 | TRAMPOLINE >> 12), %eax
	wrmsr
	mov $(0x000c4600 | TRAMPOLINE >> 12), %eax
	wrmsr
	mov $guest_main, %edi
	jmp enter3

/* Descriptor tables, TSS and local APIC of this processor; its number in %ebx afterwards. */
cpu_init:
	lgdt gdt_ptr
	lidt idt_ptr
	mov $DATA0, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $MSR_APIC_BASE, %ecx
	rdmsr
	or $0xc00, %eax           /* x2APIC */
	wrmsr
	mov $X2APIC(2), %ecx
	rdmsr
	mov %eax, %ebx
	and $(CPUS - 1), %ebx
	/* TSS: ring-0 stack, port bitmap */
	imul $TSS_STRIDE, %ebx, %eax
	add $tss, %eax
	mov %ebx, %edx
	inc %edx
	imul $STACK, %edx, %edx
	add $stacks0, %edx
	movl %edx, 4(%rax)
	movw $104, 102(%rax)
	movb $0xff, TSS_LIMIT(%rax)
	/* its descriptor */
	mov %ebx, %edi
	shl $4, %edi
	add $gdt_tss, %edi
	movw $TSS_LIMIT, (%rdi)
	movw %ax, 2(%rdi)
	mov %eax, %edx
	shr $16, %edx
	movb %dl, 4(%rdi)
	movb $0x89, 5(%rdi)
	movb $0, 6(%rdi)
	movb %dh, 7(%rdi)
	mov %ebx, %eax
	shl $4, %eax
	add $TSS0, %eax
	ltr %ax
	/* local APIC on, its timer off until ring 3 asks for it by port writes to the page below */
	mov $X2APIC(0x0f), %ecx
	mov $0x1ff, %eax
	xor %edx, %edx
	wrmsr
	mov $X2APIC(0x3e), %ecx   /* divide by 16 */
	mov $3, %eax
	wrmsr
	mov $X2APIC(0x32), %ecx   /* periodic, vector 0x30 */
	mov $0x20030, %eax
	wrmsr
	mov $X2APIC(0x38), %ecx
	mov $62500, %eax          /* 1 kHz of 1 GHz / 16 */
	wrmsr
	lock incq CTL_ONLINE
	ret

/* To ring 3 at %edi, interrupts on, its processor's number as the first argument. */
enter3:
	mov %ebx, %edx
	inc %edx
	imul $STACK, %edx, %edx
	add $(stacks3 - 8), %edx  /* as after a call */
	pushq $DATA3
	pushq %rdx
	pushq $0x202
	pushq $CODE3
	pushq %rdi
	mov %ebx, %edi
	mov boot_params, %rsi
	iretq

/* ---- the other processors ---- */

	.code16
tramp:
	cli
	mov $(TRAMPOLINE >> 4), %ax
	mov %ax, %ds
	lgdtl (tramp_gdt - tramp)
	mov $0x620, %eax          /* PAE, OSFXSR, OSXMMEXCPT */
	mov %eax, %cr4
	mov $pml4, %eax
	mov %eax, %cr3
	mov $MSR_EFER, %ecx
	xor %edx, %edx
	mov $0x100, %eax
	wrmsr
	mov $0x80050033, %eax
	mov %eax, %cr0
	ljmpl $CODE0, $ap64
	.balign 8
tramp_gdt:
	.word gdt_end - gdt - 1
	.long gdt
tramp_end:

	.code64
ap64:
	/* no stack yet: one of ring 0's own, which cpu_init finds the same way */
	mov $MSR_APIC_BASE, %ecx
	rdmsr
	or $0xc00, %eax
	wrmsr
	mov $X2APIC(2), %ecx
	rdmsr
	and $(CPUS - 1), %eax
	inc %eax
	imul $STACK, %eax, %eax
	add $stacks0, %eax
	mov %eax, %esp
	call cpu_init
	mov $guest_ap, %edi
	jmp enter3

/* ---- interrupts: 16 bytes for each vector ---- */

	.balign 16
stubs:
	.set vec, 0
	.rept 256
	.balign 16
	.if vec == 0x20
	jmp irq_pit
	.elseif vec == 0x30
	jmp irq_lapic
	.elseif vec >= 0x21 && vec < 0x30
	jmp irq_pic
	.else
	pushq $vec
	jmp trap
	.endif
	.set vec, vec + 1
	.endr
	.balign 16

irq_lapic:
	push %rax
	push %rcx
	push %rdx
	lock incq CTL_LAPIC
	mov $X2APIC(EOI), %ecx
	xor %eax, %eax
	xor %edx, %edx
	wrmsr
	pop %rdx
	pop %rcx
	pop %rax
	iretq

irq_pit:
	push %rax
	lock incq CTL_PIT
	mov $0x20, %al
	out %al, $0x20
	pop %rax
	iretq

irq_pic:
	push %rax
	mov $0x20, %al
	out %al, $0xa0
	out %al, $0x20
	pop %rax
	iretq

/* An exception: nothing here expects one. "E", vector, address on the debug port, then a reset. */
trap:
	mov $0x402, %edx
	mov $'E', %al
	out %al, %dx
	pop %rbx
	call hex
	pop %rbx                  /* error code or address */
	call hex
	pop %rbx
	call hex
	mov %cr2, %rbx
	call hex
	mov $0xcf9, %edx
	mov $6, %al
	out %al, %dx
1:	hlt
	jmp 1b

hex:
	mov $16, %ecx
1:	rol $4, %rbx
	mov %ebx, %eax
	and $15, %eax
	add $'0', %al
	cmp $'9', %al
	jbe 2f
	add $39, %al
2:	out %al, %dx
	dec %ecx
	jnz 1b
	mov $' ', %al
	out %al, %dx
	ret

/* ---- tables ---- */

	.section .data
	.balign 16
gdt:
	.quad 0, 0
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
	.quad 0x00affb000000ffff
	.quad 0x00cff3000000ffff
gdt_tss:
	.fill CPUS * 2, 8, 0
gdt_end:
gdt_ptr:
	.word gdt_end - gdt - 1
	.quad gdt
idt_ptr:
	.word 4095
	.quad idt
	.balign 8
	.globl boot_params
boot_params:
	.quad 0

	.balign 4096
pml4:
	.quad pdpt + 7
	.fill 511, 8, 0
pdpt:
	.quad pd + 0x7, pd + 0x1007, pd + 0x2007, pd + 0x3007
	.fill 508, 8, 0
pd:	/* 4 GiB, 1:1, for ring 3 too; the last GiB uncached */
	.set at, 0
	.rept 1536
	.quad at + 0x87
	.set at, at + 0x200000
	.endr
	.rept 512
	.quad at + 0x97
	.set at, at + 0x200000
	.endr

	.section .bss
	.balign 4096
	.globl idt
idt:	.skip 4096
tss:	.skip CPUS * TSS_STRIDE
	.balign 16
stacks0: .skip CPUS * STACK
stacks3: .skip CPUS * STACK

	.section .note.GNU-stack, "", @progbits
