#include "cli/html.h"

void sp_html_text(FILE *file, const char *text)
{
    for (const char *c = text; *c; c++) switch (*c) {
        case '<': fputs("&lt;", file); break;
        case '>': fputs("&gt;", file); break;
        case '&': fputs("&amp;", file); break;
        case '"': fputs("&quot;", file); break;
        default: fputc(*c, file);
        }
}

void sp_html_begin(FILE *file, const char *title)
{
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
          file);
    sp_html_text(file, title);
    fputs("</title>\n<style>\n"
          "body{font:14px/1.45 system-ui,sans-serif;color:#222;background:#fff;"
          "max-width:1080px;margin:24px auto;padding:0 16px}\n"
          "h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:32px 0 8px;"
          "border-bottom:1px solid #ddd;padding-bottom:4px}\n"
          ".label{background:#fff4d6;border:1px solid #e6c968;border-radius:4px;padding:6px 10px;"
          "display:inline-block;margin:8px 0}\n"
          ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:12px 0}\n"
          ".tile{border:1px solid #ddd;border-radius:6px;padding:8px 14px;min-width:120px}\n"
          ".tile b{display:block;font-size:20px;font-weight:600}.tile span{color:#666}\n"
          "table{border-collapse:collapse;width:100%;font-size:13px}\n"
          "th{text-align:right;font-weight:600;color:#555;padding:3px 8px;"
          "border-bottom:1px solid #bbb;white-space:nowrap}\n"
          "td{text-align:right;padding:2px 8px;border-bottom:1px solid #eee;white-space:nowrap}\n"
          "th.l,td.l{text-align:left}td.n{max-width:300px;overflow:hidden;text-overflow:ellipsis}\n"
          "tr.chosen td{background:#eef5fd}\n"
          ".dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}\n"
          ".scroll{overflow-x:auto}svg{max-width:100%;height:auto}\n"
          "p.note{color:#666;font-size:13px;margin:4px 0}\n"
          "</style></head><body>\n",
          file);
}

void sp_html_end(FILE *file)
{
    fputs("</body></html>\n", file);
}

void sp_html_bar(FILE *file, double value, double most, const char *format, const char *colour)
{
    char number[64];
    double share = most > 0 ? 100 * value / most : 0;
    snprintf(number, sizeof number, format, value);
    fprintf(file,
            "<td style=\"background:linear-gradient(90deg,%s %.1f%%,transparent %.1f%%)\">%s</td>",
            colour, share, share, number);
}

const char *sp_html_device(size_t index)
{
    static const char *const colours[] = {"#4e79a7", "#e08b2d", "#59a14f", "#b07aa1"};
    return colours[index < 4 ? index : 3];
}
