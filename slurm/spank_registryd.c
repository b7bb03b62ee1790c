/* Slurm's --image for srun, sbatch and salloc.
 *
 * The name is resolved to a digest when the job is submitted, by registryctl in the name of the
 * user. The job has it in REGISTRYD_IMAGE and the prolog in SPANK_REGISTRYD_IMAGE, so that all its
 * nodes start the same image, whatever becomes of the tag. Everything else is in the scripts.
 *
 * plugstack.conf: optional /PATH/spank_registryd.so registryctl=/PATH/registryctl
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <slurm/spank.h>

SPANK_PLUGIN(registryd, 1)

static char exact[1024];
static const char *program = "registryctl";

/* The first line of "registryctl digest"; what it says besides goes to the user's terminal. */
static int resolve(const char *image)
{
    int out[2], status = -1;
    if (pipe(out))
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(out[1], STDOUT_FILENO);
        close(out[0]);
        close(out[1]);
        execlp(program, program, "digest", "--full-ref", image, (char *)NULL);
        fprintf(stderr, "registryd: cannot run %s\n", program);
        _exit(127);
    }
    close(out[1]);
    ssize_t got = 0, more;
    while ((more = read(out[0], exact + got, sizeof exact - 1 - got)) > 0)
        got += more;
    close(out[0]);
    exact[got] = '\0';
    exact[strcspn(exact, "\n")] = '\0';
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 && *exact ? 0 : -1;
}

static int take_image(int val, const char *image, int remote)
{
    (void)val;
    if (remote)
        return 0;
    /* srun in a job has the job's own option from its environment: that is resolved already. */
    const char *asked = getenv("SLURM_SPANK__SLURM_SPANK_OPTION_registryd_image");
    const char *meant = getenv("SLURM_SPANK_REGISTRYD_IMAGE");
    if (spank_context() == S_CTX_LOCAL && image && asked && meant && !strcmp(image, asked)) {
        snprintf(exact, sizeof exact, "%s", meant);
        return 0;
    }
    if (!image || !*image || *image == '-' || resolve(image)) {
        slurm_error("registryd: --image=%s: nothing is submitted, see above", image ? image : "");
        return -1;
    }
    return 0;
}

static struct spank_option image_option = {
    "image", "NAME", "registryd: bring this image to the job's nodes before it starts", 1, 0,
    take_image
};

int slurm_spank_init(spank_t sp, int ac, char **av)
{
    for (int i = 0; i < ac; i++)
        if (!strncmp(av[i], "registryctl=", 12))
            program = av[i] + 12;
    return spank_option_register(sp, &image_option);
}

int slurm_spank_init_post_opt(spank_t sp, int ac, char **av)
{
    (void)ac, (void)av;
    if (*exact && spank_context() != S_CTX_REMOTE) {
        setenv("REGISTRYD_IMAGE", exact, 1);
        /* Of a step in a job that runs already there is no prolog to be told. */
        spank_job_control_setenv(sp, "REGISTRYD_IMAGE", exact, 1);
    }
    return 0;
}
