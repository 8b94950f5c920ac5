/* Foreign text, one character at a time; shared by log lines and configuration messages. */
#ifndef TEXT_INT_H
#define TEXT_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#define LB_TEXT_UNIT 8u

/* The safe form of the character at @s into @out (with a NUL); returns the bytes of @s it covers.
 * @s is not at its end. @quoted: also escape '"' and '\\'. */
size_t lb_text_unit(char out[LB_TEXT_UNIT], const char *s, bool quoted);

#endif
