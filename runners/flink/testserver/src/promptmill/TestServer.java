package promptmill;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.beam.model.jobmanagement.v1.JobApi.*;
import org.apache.beam.model.jobmanagement.v1.JobServiceGrpc;
import org.apache.beam.model.pipeline.v1.Endpoints;
import org.apache.beam.model.pipeline.v1.MetricsApi.MonitoringInfo;
import org.apache.beam.model.pipeline.v1.RunnerApi.ArtifactInformation;
import org.apache.beam.runners.fnexecution.artifact.ArtifactStagingService;
import org.apache.beam.sdk.coders.VarLongCoder;
import org.apache.beam.sdk.fn.server.FnService;
import org.apache.beam.sdk.fn.server.GrpcFnServer;
import org.apache.beam.sdk.fn.server.ServerFactory;
import org.apache.beam.sdk.io.FileSystems;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.vendor.grpc.v1p69p0.com.google.protobuf.ByteString;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Status;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.stub.StreamObserver;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.api.java.ExecutionEnvironment;
import org.apache.flink.configuration.Configuration;

/** Beam's job API before a Flink cluster, for tests: see README.md for what it is not. */
public class TestServer extends JobServiceGrpc.JobServiceImplBase implements FnService {
  private final Map<String, Job> jobs = new ConcurrentHashMap<>();
  private final GrpcFnServer<ArtifactStagingService> artifacts;
  private final String host;
  private final int restPort;

  TestServer(String host, int restPort, GrpcFnServer<ArtifactStagingService> artifacts) {
    this.host = host;
    this.restPort = restPort;
    this.artifacts = artifacts;
  }

  @Override
  public void prepare(PrepareJobRequest r, StreamObserver<PrepareJobResponse> out) {
    String id = r.getJobName() + "_" + UUID.randomUUID();
    Job job = new Job(id, r.getJobName(), UUID.randomUUID().toString(), r.getPipeline(), r.getPipelineOptions());
    jobs.put(id, job);
    Map<String, List<ArtifactInformation>> files = new HashMap<>();
    r.getPipeline().getComponents().getEnvironmentsMap().forEach((name, e) -> files.put(name, e.getDependenciesList()));
    artifacts.getService().registerJob(job.stagingToken, files);
    answer(out, PrepareJobResponse.newBuilder()
        .setPreparationId(id)
        .setArtifactStagingEndpoint(artifacts.getApiServiceDescriptor())
        .setStagingSessionToken(job.stagingToken)
        .build());
  }

  @Override
  public void run(RunJobRequest r, StreamObserver<RunJobResponse> out) {
    Job job = known(r.getPreparationId(), out);
    if (job != null) {
      job.to(JobState.Enum.STARTING, null);
      new Thread(() -> execute(job), job.id).start();
      answer(out, RunJobResponse.newBuilder().setJobId(job.id).build());
    }
  }

  @Override
  public void getJobs(GetJobsRequest r, StreamObserver<GetJobsResponse> out) {
    GetJobsResponse.Builder all = GetJobsResponse.newBuilder();
    for (Job j : jobs.values()) {
      all.addJobInfo(JobInfo.newBuilder().setJobId(j.id).setJobName(j.name).setState(j.state()));
    }
    answer(out, all.build());
  }

  @Override
  public void getState(GetJobStateRequest r, StreamObserver<JobStateEvent> out) {
    Job job = known(r.getJobId(), out);
    if (job != null) {
      answer(out, JobStateEvent.newBuilder().setState(job.state()).build());
    }
  }

  @Override
  public void getMessageStream(JobMessagesRequest r, StreamObserver<JobMessagesResponse> out) {
    Job job = known(r.getJobId(), out);
    if (job != null) {
      job.watch(out);
    }
  }

  @Override
  public void getJobMetrics(GetJobMetricsRequest r, StreamObserver<GetJobMetricsResponse> out) {
    Job job = known(r.getJobId(), out);
    if (job != null) {
      answer(out, job.metrics());
    }
  }

  /** Says yes and, like Beam's Flink job server, leaves Flink's job running. */
  @Override
  public void cancel(CancelJobRequest r, StreamObserver<CancelJobResponse> out) {
    Job job = known(r.getJobId(), out);
    if (job != null) {
      job.to(JobState.Enum.CANCELLED, null);
      answer(out, CancelJobResponse.newBuilder().setState(job.state()).build());
    }
  }

  @Override
  public void close() {}

  private Job known(String id, StreamObserver<?> out) {
    Job job = jobs.get(id);
    if (job == null) {
      out.onError(Status.NOT_FOUND.withDescription("no job " + id).asException());
    }
    return job;
  }

  private static <T> void answer(StreamObserver<T> out, T what) {
    out.onNext(what);
    out.onCompleted();
  }

  private void execute(Job job) {
    try {
      ExecutionEnvironment env = ExecutionEnvironment.createRemoteEnvironment(host, restPort, new Configuration());
      if (job.options.containsFields("beam:option:parallelism:v1")) {
        env.setParallelism((int) job.options.getFieldsOrThrow("beam:option:parallelism:v1").getNumberValue());
      }
      new Translation(env, job).run();
      job.to(JobState.Enum.RUNNING, null);
      job.measured(counters(env.execute(job.name)));
      job.to(JobState.Enum.DONE, null);
    } catch (Throwable e) {
      StringWriter trace = new StringWriter();
      e.printStackTrace(new PrintWriter(trace));
      System.err.println("job " + job.id + " failed: " + trace);
      Throwable root = e;
      while (root.getCause() != null) {
        root = root.getCause();
      }
      job.to(JobState.Enum.FAILED, root.toString());
    }
  }

  /** Sums the user counters that the stages' bundles brought. */
  private static MetricResults counters(JobExecutionResult result) throws Exception {
    Map<MonitoringInfo, Long> sums = new HashMap<>();
    List<byte[]> infos = result.getAccumulatorResult(StageFunction.COUNTERS);
    for (byte[] b : infos == null ? List.<byte[]>of() : infos) {
      MonitoringInfo m = MonitoringInfo.parseFrom(b);
      MonitoringInfo key = m.toBuilder().clearPayload().clearStartTime().build();
      sums.merge(key, VarLongCoder.of().decode(m.getPayload().newInput()), Long::sum);
    }
    MetricResults.Builder all = MetricResults.newBuilder();
    for (Map.Entry<MonitoringInfo, Long> e : sums.entrySet()) {
      ByteString.Output value = ByteString.newOutput();
      VarLongCoder.of().encode(e.getValue(), value);
      all.addAttempted(e.getKey().toBuilder().setPayload(value.toByteString()));
    }
    return all.build();
  }

  /** Arguments: Flink's REST host and port, the port to listen at, a directory for staged files. */
  public static void main(String[] args) throws Exception {
    FileSystems.setDefaultPipelineOptions(PipelineOptionsFactory.create());
    GrpcFnServer<ArtifactStagingService> artifacts = GrpcFnServer.allocatePortAndCreateFor(
        new ArtifactStagingService(ArtifactStagingService.beamFilesystemArtifactDestinationProvider(args[3])),
        ServerFactory.createDefault());
    TestServer service = new TestServer(args[0], Integer.parseInt(args[1]), artifacts);
    GrpcFnServer<TestServer> server = GrpcFnServer.create(
        service,
        Endpoints.ApiServiceDescriptor.newBuilder().setUrl("localhost:" + args[2]).build(),
        ServerFactory.createDefault());
    System.err.println("job server ready at " + server.getApiServiceDescriptor().getUrl());
    server.getServer().awaitTermination();
  }
}
