/*
 * table.h - a table of text cells, printed aligned, as Markdown or as CSV.
 */
#ifndef SP_CLI_TABLE_H
#define SP_CLI_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define SP_TABLE_COLUMNS 24

typedef struct sp_table {
    size_t columns, cells, room;
    const char *titles[SP_TABLE_COLUMNS];
    bool left[SP_TABLE_COLUMNS]; /* aligned left: text; else right: numbers */
    char **text;                 /* row after row */
    bool failed;                 /* there was no memory for a cell */
} sp_table;

/* titles: columns separated by '|'; a leading '<' aligns left. The string must outlive the table.
 */
void sp_table_init(sp_table *table, const char *titles);

/* Adds the next cell, row by row, printf-style. */
void sp_table_add(sp_table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

void sp_table_print(const sp_table *table, FILE *file);
void sp_table_markdown(const sp_table *table, FILE *file);
void sp_table_csv(const sp_table *table, FILE *file);
void sp_table_free(sp_table *table);

#endif
