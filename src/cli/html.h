/* html.h - pieces of an HTML page: escaped text, bars, timelines. */
#ifndef SP_CLI_HTML_H
#define SP_CLI_HTML_H

#include <stddef.h>
#include <stdio.h>

/* Text with the characters that mean something in HTML escaped. */
void sp_html_text(FILE *file, const char *text);
/* The page up to its body, with the style sheet inside it. */
void sp_html_begin(FILE *file, const char *title);
void sp_html_end(FILE *file);
/* A cell of a table with a bar of `value` out of `most` behind its number. */
void sp_html_bar(FILE *file, double value, double most, const char *format, const char *colour);
/* Colour of the index-th device. */
const char *sp_html_device(size_t index);

#endif
