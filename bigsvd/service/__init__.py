"""The service: jobs, results and pages by HTTP, over the records of jobs and the factor stores."""
