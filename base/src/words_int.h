/* Parsers shared by words.c and conf_fill.c. */
#ifndef WORDS_INT_H
#define WORDS_INT_H

#include <stdint.h>

/* The decimal number that @text starts with (no sign, no leading zero); returns what follows it,
 * NULL when there is none or it does not fit. */
const char *lb_read_u64(const char *text, uint64_t *out);

#endif
