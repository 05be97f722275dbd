package promptmill;

import java.util.ArrayList;
import java.util.List;
import org.apache.beam.model.jobmanagement.v1.JobApi.GetJobMetricsResponse;
import org.apache.beam.model.jobmanagement.v1.JobApi.JobMessage;
import org.apache.beam.model.jobmanagement.v1.JobApi.JobMessagesResponse;
import org.apache.beam.model.jobmanagement.v1.JobApi.JobState;
import org.apache.beam.model.jobmanagement.v1.JobApi.JobStateEvent;
import org.apache.beam.model.jobmanagement.v1.JobApi.MetricResults;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.vendor.grpc.v1p69p0.com.google.protobuf.Struct;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.stub.StreamObserver;

/** One job: its description, its state, and who watches it. */
class Job {
  final String id;
  final String name;
  final String stagingToken;
  final RunnerApi.Pipeline pipeline;
  final Struct options;

  private JobState.Enum state = JobState.Enum.STOPPED;
  private String error;
  private MetricResults metrics = MetricResults.getDefaultInstance();
  private final List<StreamObserver<JobMessagesResponse>> watchers = new ArrayList<>();

  Job(String id, String name, String stagingToken, RunnerApi.Pipeline pipeline, Struct options) {
    this.id = id;
    this.name = name;
    this.stagingToken = stagingToken;
    this.pipeline = pipeline;
    this.options = options;
  }

  synchronized JobState.Enum state() {
    return state;
  }

  synchronized GetJobMetricsResponse metrics() {
    return GetJobMetricsResponse.newBuilder().setMetrics(metrics).build();
  }

  synchronized void measured(MetricResults m) {
    metrics = m;
  }

  /** Moves to a state, unless the job has ended. */
  synchronized void to(JobState.Enum next, String why) {
    if (ended()) {
      return;
    }
    state = next;
    error = why;
    for (StreamObserver<JobMessagesResponse> w : watchers) {
      tell(w);
    }
    if (ended()) {
      watchers.clear();
    }
  }

  synchronized void watch(StreamObserver<JobMessagesResponse> w) {
    tell(w);
    if (!ended()) {
      watchers.add(w);
    }
  }

  private boolean ended() {
    return state == JobState.Enum.DONE || state == JobState.Enum.FAILED || state == JobState.Enum.CANCELLED;
  }

  private void tell(StreamObserver<JobMessagesResponse> w) {
    try {
      if (error != null) {
        JobMessage m = JobMessage.newBuilder().setImportance(JobMessage.MessageImportance.JOB_MESSAGE_ERROR).setMessageText(error).build();
        w.onNext(JobMessagesResponse.newBuilder().setMessageResponse(m).build());
      }
      w.onNext(JobMessagesResponse.newBuilder().setStateResponse(JobStateEvent.newBuilder().setState(state)).build());
      if (ended()) {
        w.onCompleted();
      }
    } catch (RuntimeException e) {
      // The launcher has gone; the job goes on.
    }
  }
}
