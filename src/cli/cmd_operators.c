/* sparoa operators: what the library can run. */
#include "cli/cli.h"
#include "cli/table.h"

#include <string.h>

static void fill(sp_table *t, bool markdown)
{
    sp_table_init(t, markdown ? "<Domain|<Operator|<Opset versions" : "<domain|<operator|<opset");
    int32_t since, until;
    const char *name;
    for (size_t i = 0; (name = sparoa_operator_name(i, &since, &until)); i++) {
        const char *colons = strstr(name, "::");
        if (colons)
            sp_table_add(t, "%.*s", (int)(colons - name), name);
        else
            sp_table_add(t, "ai.onnx");
        sp_table_add(t, "%s", colons ? colons + 2 : name);
        if (until)
            sp_table_add(t, "%d to %d", (int)since, (int)until);
        else
            sp_table_add(t, "%d and newer", (int)since);
    }
}

static bool write_json(const sp_cli *cli)
{
    FILE *file = sp_cli_json_open(cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    int32_t since, until;
    const char *name;
    sp_json_object(&j, NULL);
    sp_json_string(&j, "command", "operators");
    sp_json_string(&j, "version", sparoa_version());
    sp_json_array(&j, "operators");
    for (size_t i = 0; (name = sparoa_operator_name(i, &since, &until)); i++) {
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "name", name);
        sp_json_int(&j, "since", since);
        if (until)
            sp_json_int(&j, "until", until);
        else
            sp_json_null(&j, "until");
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(cli, file);
}

int sp_cmd_operators(sp_cli *cli, int argc, char **argv)
{
    bool markdown = false;
    const sp_arg table[] = {
        {SP_ARG_FLAG, 0, "markdown", &markdown, NULL, "print a Markdown table", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, table, NULL, argc, argv);
    if (code >= 0) return code;
    if (sp_cli_text(cli)) {
        sp_table t;
        fill(&t, markdown);
        if (markdown)
            sp_table_markdown(&t, stdout);
        else
            sp_table_print(&t, stdout);
        if (!markdown && !cli->quiet) printf("%zu operators\n", t.cells / t.columns);
        sp_table_free(&t);
    }
    return cli->json_path && !write_json(cli) ? SP_EXIT_FAIL : SP_EXIT_PASS;
}
