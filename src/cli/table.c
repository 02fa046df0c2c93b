#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_SHOWN = 48 }; /* longer cells are cut in the aligned form */

void sp_table_init(sp_table *table, const char *titles)
{
    *table = (sp_table){0};
    for (const char *at = titles; at && table->columns < SP_TABLE_COLUMNS; table->columns++) {
        table->left[table->columns] = *at == '<';
        table->titles[table->columns] = at + (*at == '<');
        at = strchr(at, '|');
        if (at) at++;
    }
}

void sp_table_add(sp_table *table, const char *format, ...)
{
    if (table->cells == table->room) {
        size_t room = table->room ? 2 * table->room : 256;
        char **text = realloc(table->text, room * sizeof *text);
        if (!text) {
            table->failed = true;
            return;
        }
        table->text = text;
        table->room = room;
    }
    va_list list;
    va_start(list, format);
    char *cell = NULL;
    if (vasprintf(&cell, format, list) < 0)
        table->failed = true;
    else
        table->text[table->cells++] = cell;
    va_end(list);
}

static int title_length(const sp_table *table, size_t column)
{
    return (int)strcspn(table->titles[column], "|");
}

static void aligned(FILE *file, const char *text, int length, int width, bool left, bool last)
{
    const char *dots = "";
    if (length > CELL_SHOWN) length = CELL_SHOWN - 2, dots = "..";
    int gap = width - length - (int)strlen(dots);
    if (!left) fprintf(file, "%*s", gap, "");
    fprintf(file, "%.*s%s", length, text, dots);
    if (!last) fprintf(file, "%*s", left ? gap + 2 : 2, "");
}

void sp_table_print(const sp_table *table, FILE *file)
{
    int widths[SP_TABLE_COLUMNS];
    for (size_t c = 0; c < table->columns; c++) widths[c] = title_length(table, c);
    for (size_t i = 0; i < table->cells; i++) {
        int length = (int)strlen(table->text[i]);
        if (length > CELL_SHOWN) length = CELL_SHOWN;
        if (length > widths[i % table->columns]) widths[i % table->columns] = length;
    }
    for (size_t c = 0; c < table->columns; c++)
        aligned(file, table->titles[c], title_length(table, c), widths[c], table->left[c],
                c + 1 == table->columns);
    fputc('\n', file);
    for (size_t i = 0; i < table->cells; i++) {
        size_t c = i % table->columns;
        aligned(file, table->text[i], (int)strlen(table->text[i]), widths[c], table->left[c],
                c + 1 == table->columns);
        if (c + 1 == table->columns) fputc('\n', file);
    }
}

void sp_table_markdown(const sp_table *table, FILE *file)
{
    for (size_t c = 0; c < table->columns; c++)
        fprintf(file, "| %.*s ", title_length(table, c), table->titles[c]);
    fputs("|\n", file);
    for (size_t c = 0; c < table->columns; c++) fputs(table->left[c] ? "|---" : "|---:", file);
    fputs("|\n", file);
    for (size_t i = 0; i < table->cells; i++)
        fprintf(file, "| %s %s", table->text[i], (i + 1) % table->columns ? "" : "|\n");
}

static void csv_cell(FILE *file, const char *text)
{
    if (!strpbrk(text, ",\"\n\r")) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

void sp_table_csv(const sp_table *table, FILE *file)
{
    for (size_t c = 0; c < table->columns; c++)
        fprintf(file, "%s%.*s", c ? "," : "", title_length(table, c), table->titles[c]);
    fputc('\n', file);
    for (size_t i = 0; i < table->cells; i++) {
        csv_cell(file, table->text[i]);
        fputc((i + 1) % table->columns ? ',' : '\n', file);
    }
}

void sp_table_free(sp_table *table)
{
    for (size_t i = 0; i < table->cells; i++) free(table->text[i]);
    free(table->text);
    *table = (sp_table){0};
}
