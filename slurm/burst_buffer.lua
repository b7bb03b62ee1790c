-- Slurm's burst_buffer/lua: brings the image of a job to the nodes while the job is pending.
--
-- A batch script asks for it with a line "#BB_LUA image=NAME". Slurm wants all of these functions.
-- What stage-in has brought is written into the job's comment by its digest, where prolog.sh finds
-- it. A job whose image cannot be had stays pending, and squeue shows why.
local registryctl = "registryctl"

local function quoted(text)
    return "'" .. tostring(text):gsub("'", "'\\''") .. "'"
end

function slurm_bb_job_process(job_script)
    return slurm.SUCCESS
end

function slurm_bb_pools()
    return slurm.SUCCESS
end

function slurm_bb_job_teardown(job_id, job_script, hurry)
    return slurm.SUCCESS
end

function slurm_bb_setup(job_id, uid, gid, pool, bb_size, job_script)
    return slurm.SUCCESS
end

function slurm_bb_data_in(job_id, job_script)
    local command = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "
        .. quoted(registryctl) .. " slurm stage-in --job " .. quoted(job_id)
        .. " " .. quoted(job_script) .. " 2>&1; echo \"exit $?\""
    -- How a pipe's program has ended is not told by every Lua, so the shell says it.
    local pipe = io.popen(command)
    local said, code = pipe:read("*a"):match("^(.-)%s*exit (%d+)%s*$")
    pipe:close()
    if code == "0" then
        return slurm.SUCCESS
    end
    return slurm.ERROR, said or "registryctl slurm stage-in did not end"
end

function slurm_bb_test_data_in(job_id, job_script)
    return slurm.SUCCESS
end

function slurm_bb_real_size(job_id)
    return slurm.SUCCESS, "0"
end

function slurm_bb_paths(job_id, job_script, path_file)
    return slurm.SUCCESS
end

function slurm_bb_pre_run(job_id, job_script)
    return slurm.SUCCESS
end

function slurm_bb_post_run(job_id, job_script)
    return slurm.SUCCESS
end

function slurm_bb_data_out(job_id, job_script)
    return slurm.SUCCESS
end

function slurm_bb_test_data_out(job_id, job_script)
    return slurm.SUCCESS
end

function slurm_bb_get_status(...)
    return slurm.SUCCESS, ""
end
