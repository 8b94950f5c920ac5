/*
 * A firmware of 64 KiB for the bench, at 0xf0000 and below 4 GiB. With FILL_BYTES it fills that much
 * memory from 1 MiB on, says "F" and counts in the first word; without it says "X" at once.
 */
	.code16
	.globl start
start:
#ifdef FILL_BYTES
	cli
	lgdtl %cs:gdt_ptr - start
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $8, $protected
	.code32
protected:
	mov $16, %eax
	mov %eax, %ds
	mov $0x100000, %edi
	mov $(FILL_BYTES / 4), %ecx
	mov $0x12345678, %eax
1:	mov %eax, (%edi)
	add $0x9e3779b1, %eax
	add $4, %edi
	dec %ecx
	jnz 1b
	mov $0x3f8, %edx
	mov $'F', %al
	out %al, %dx
1:	incl 0x100000
	jmp 1b
	.balign 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_ptr:
	.word 23
	.long gdt
	.code16
#endif
	.org 0xfff0
reset:
#ifdef FILL_BYTES
	ljmp $0xf000, $0
#else
	mov $0x3f8, %dx
	mov $'X', %al
	out %al, %dx
1:	hlt
	jmp 1b
#endif
	.org 0x10000
	.section .note.GNU-stack, "", @progbits
